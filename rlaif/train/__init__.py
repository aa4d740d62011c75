"""From training rows to a tuned model. Knows data sets and models; knows no judge."""
