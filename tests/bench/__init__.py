"""Speed, as ratios: contenders take turns, each in a process of its own (two spinning pools falsify each other)."""
