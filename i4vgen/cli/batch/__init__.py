"""Batches: a folder of runs, a table and a page, made from a file of prompts.

`prompts` reads the file and `tasks` plans the runs. `executor` makes them in this process, `cluster` in
`worker` processes on Ray. `summary` and `page` write the table and the page. `vbench` names the videos for
VBench.
"""
