"""Films to pictures with a time. The modules that read films need PyAV (the extra `video`)."""
