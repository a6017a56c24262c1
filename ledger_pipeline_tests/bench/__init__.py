"""`make bench`: how long the work takes, each measure beside what it is compared with in the same run on the same machine."""
