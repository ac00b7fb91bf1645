"""The job queue of the device."""
