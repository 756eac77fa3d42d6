from django.db import migrations

from conversations.search import schema


class Migration(migrations.Migration):
    """The index itself. The triggers follow when all migrations are through, and what is there by then is read."""

    dependencies = [
        ('conversations', '0003_search_entry'),
    ]

    operations = [
        migrations.RunPython(schema.make, schema.unmake),
    ]
