"""A local AWS for privatelink-guard: ministack plus the provider's side of AWS PrivateLink."""
