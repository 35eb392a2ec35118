"""How far one driver goes: real messages to many simulated actors, and hours on a virtual clock."""
