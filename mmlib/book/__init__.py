"""What only the book needs: the ledger, the errata, the index of equations, claims, and figures of single chapters.

Nothing here but the figures imports torch.
"""
