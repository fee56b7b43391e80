"""What all backbones share: trajectory tokenizer, encoders, action heads, the agent, and how it acts."""
