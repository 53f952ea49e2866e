"""The platform that `fivenines up` runs where there is no `platform.yaml`: three regions on this machine."""

__all__ = ["BUILT_IN", "BUILT_IN_NAME"]

BUILT_IN_NAME = "the built-in platform"
"""What errors and plans call it in the place of a file."""
BUILT_IN = """\
platform: bank
peak_per_s: 1000
capacity_per_node_per_s: 1000
regions:
  - {name: eu-west, provider: local-a, location: dublin}
  - {name: eu-north, provider: local-b, location: stockholm}
  - {name: us-east, provider: local-c, location: n-virginia}
"""
