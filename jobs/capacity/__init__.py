"""Plans for people: gather the workload, plan, report, and calibrate on this machine."""
