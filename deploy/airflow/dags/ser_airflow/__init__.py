"""Steps of the DAG in ``ser_dag.py``. They import Airflow and its providers, and nothing of this project."""
