from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('conversations', '0004_search_index'),
    ]

    operations = [
        migrations.AddField(
            model_name='message',
            name='depth',
            field=models.PositiveIntegerField(default=0, editable=False),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='message',
            name='jump_id',
            field=models.UUIDField(editable=False, null=True),
        ),
    ]
