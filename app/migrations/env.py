"""Alembic's entry: runs migrations on the connection that app.store.database hands over.

For writing a migration: `alembic -x url=sqlite:///scratch.db revision --autogenerate -m "What changes"`.
"""

from alembic import context
from sqlalchemy import Connection, create_engine

from app.store.tables import Base


def run(connection: Connection) -> None:
    """Run what the command asks for inside the transaction of `connection`."""
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


handed_over = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:
    with create_engine(context.get_x_argument(as_dictionary=True)["url"]).begin() as opened:
        run(opened)
