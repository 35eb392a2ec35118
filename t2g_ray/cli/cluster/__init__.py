"""Jobs on a cluster, and runs that are live on one."""
