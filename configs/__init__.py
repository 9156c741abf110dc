"""One YAML per competition, installed as package data of `kit.configs`."""
