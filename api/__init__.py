"""The REST API: validates, authorises, and starts, updates, signals or describes workflows. It decides nothing."""
