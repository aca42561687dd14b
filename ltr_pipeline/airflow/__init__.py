"""What the DAGs need from Airflow: the only Airflow imports in the package, all of them light at parse time."""
