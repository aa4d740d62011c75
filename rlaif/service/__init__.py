"""The HTTP service: verdicts and rewards for trainers and pipelines, jobs that survive."""
