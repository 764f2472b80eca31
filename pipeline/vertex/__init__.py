"""The pipeline on Vertex AI: compile, submit and schedule."""
