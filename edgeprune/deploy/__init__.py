"""The release state machine over the device protocol: flash, rollback, status, run and bench."""
