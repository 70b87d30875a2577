"""Makes an S3 bucket unless it is there: `python bucket.py NAME`; server and keys are the environment's."""

import sys

import boto3

[name] = sys.argv[1:]
s3 = boto3.client("s3")
if name not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
    s3.create_bucket(Bucket=name)
