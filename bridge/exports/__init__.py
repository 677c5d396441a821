"""What leaves the house: numbered records of ended calls, and what is made of them."""
