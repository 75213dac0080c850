// Command resend is the Lambda function behind POST /admin/verify/resend.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/mail"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Resend, mail.Need)) }
