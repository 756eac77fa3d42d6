from django.db import migrations

from prompts import builtin


def lay_builtin_templates(apps, schema_editor):
    builtin.lay(*_models(apps), builtin.read())


def lift_builtin_templates(apps, schema_editor):
    builtin.lift(*_models(apps))


def _models(apps):
    return apps.get_model("prompts", "PromptTemplate"), apps.get_model("prompts", "PromptVersion")


class Migration(migrations.Migration):
    dependencies = [("prompts", "0001_initial")]

    operations = [migrations.RunPython(lay_builtin_templates, lift_builtin_templates)]
