"""The package's only imports of Airflow: they serve the DAG files, and all of them are light at parse time."""
