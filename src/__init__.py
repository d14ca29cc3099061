"""OpenSoul Gateway: agents behind the API that everything already speaks."""
