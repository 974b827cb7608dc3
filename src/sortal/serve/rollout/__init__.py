"""What stands beside the live classifier of a workspace: a canary that answers a share, a shadow that answers nobody.

`routing` says who is asked, `arms` asks, `guard` ends a canary that does worse, `follower` does what the
workspace says.
"""
