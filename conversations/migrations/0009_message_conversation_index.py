import django.db.models.deletion
from django.db import migrations, models

INDEX = "conversations_message_conversation_id_f1a2d5e9"


class Migration(migrations.Migration):
    dependencies = [("conversations", "0008_message_source_id")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name="message",
                    name="conversation",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="messages",
                        to="conversations.conversation",
                    ),
                )
            ],
            # Django would drop every index of that column alone, and message_one_streaming_per_conversation is one.
            database_operations=[
                migrations.RunSQL(
                    f"DROP INDEX {INDEX}", f"CREATE INDEX {INDEX} ON conversations_message (conversation_id)"
                )
            ],
        )
    ]
