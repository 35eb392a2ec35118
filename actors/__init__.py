"""Where it is computed: Ray actors that hold resources and delegate to t2g_ray."""
