"""What `scripts/bench.py` measures: instances, throughput, start-up; and the tables it prints."""
