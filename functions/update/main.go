// Command update is the Lambda function behind PUT /org/update.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/mail"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Update, wire.Passwords, wire.PasswordRules, mail.Need)) }
