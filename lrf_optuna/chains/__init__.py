"""What a layer computes, and the chain of small stages that stands in its place; numpy only."""
