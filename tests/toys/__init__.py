"""Ten-line models of kinds that no family has yet: the proof that the contract has room for them."""
