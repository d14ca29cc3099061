"""Tests of the Responses API, through the HTTP stack."""
