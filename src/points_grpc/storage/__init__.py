"""Where points are kept: schema, engines, statements, the repository of the decision core, reads, and the verifier.

SQLAlchemy is imported here and nowhere else. No rule of the business lives here: what is written was decided before.
"""
