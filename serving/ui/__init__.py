"""Web page of ``ser ui``, which shows the emotions in recordings."""
