"""One run of the pipeline: its name, its folder of artefacts, its line in every log, and the source it reads."""
