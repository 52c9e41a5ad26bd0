"""What is run beside the product: nothing here is installed with it."""
