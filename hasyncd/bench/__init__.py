"""What `hasyncd bench` measures, beside the kernel and the incumbent."""
