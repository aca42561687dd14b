"""The weights document, for readers outside the pipeline: `decode` checks one whole."""

from ltr_pipeline.versions.weights import Weights, decode, encode, signing_keys

__all__ = ["Weights", "decode", "encode", "signing_keys"]
