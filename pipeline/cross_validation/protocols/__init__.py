"""Named protocols of evaluation, a YAML file each."""
