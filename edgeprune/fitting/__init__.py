"""The whole chain: profile, prune, recover, compile, flash, verify and, if need be, solve again."""
