"""The heads of the network, one module or package each; `table` lists them."""
