"""Amazon Bedrock: the only code that depends on its InvokeModel API and on AWS credentials."""
