"""The controllers: one file each, with one pure `decide(desired, observed, now)`."""
