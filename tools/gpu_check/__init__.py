"""``make gpu``: what training costs on one GPU, and how many GPU-hours the paper's table would take. Within minutes.

It needs a checkout, whose tests it runs, and no network. ``check`` runs the stages, each in a process of its own with
a time limit. A stage that fails or has no time left is named in the report and stops no other.
"""
