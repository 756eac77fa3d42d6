from rest_framework import status
from rest_framework.exceptions import APIException


class NothingRecognised(APIException):
    status_code = status.HTTP_400_BAD_REQUEST
    default_code = "unrecognised"
    default_detail = "There is no conversation in this file, in any format that is known here."


class ImportFinished(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "import_finished"
    default_detail = "This import has already ended."
