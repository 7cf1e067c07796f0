"""What plans of PyTorch models go by: the layers that an archive's graph is rebuilt as, without PyTorch."""
