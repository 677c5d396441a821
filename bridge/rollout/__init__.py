"""Who may call yet: rollouts, their windows and waves, invitations, activation, capacity trials."""
