"""The street world: a simulator of two domains, its data sets on disk in the layouts of real ones, and rehearsals of a
run on small copies.

It may import `clips`, `flow` and the config, and of the image core `config` and `data`; only `build` and the jobs
import it.
"""
