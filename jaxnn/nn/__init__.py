"""The derivation as code: the network and its hand-written derivatives."""
