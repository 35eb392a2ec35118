"""A run folder -> how its run stands, whoever runs it and wherever: `t2g status`."""
