"""The heads of the network, a file or a small package each; `table` lists them."""
