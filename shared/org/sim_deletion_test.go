package org_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"orgservice/shared/org"
)

// restoreOp returns the restoration of a deleted organization, to the name that it had if the slug
// is empty.
func (s *sim) restoreOp(id, slug string) *operation {
	op := &operation{kind: "Restore", organization: id}
	if slug != "" {
		op.name = spelling(slug, len(s.ops)+1)
	}
	op.args = id + " " + op.name
	op.run = func(ctx context.Context, service *org.Service) error {
		r := org.RestoreRequest{Reason: fmt.Sprint("reason ", op.n)}
		if op.name != "" {
			r.OrganizationName = &op.name
		}
		_, err := service.Restore(ctx, "operator", id, r)
		return err
	}
	return op
}

// purgeOp returns the deletion for good of an organization that could be restored.
func (s *sim) purgeOp(id string) *operation {
	return &operation{kind: "Purge", args: id, organization: id, run: func(ctx context.Context, service *org.Service) error {
		return service.Purge(ctx, "operator", id, org.ActRequest{Reason: "a reason"})
	}}
}

func (s *sim) renameByOperatorOp(id, slug string) *operation {
	name := spelling(slug, len(s.ops)+1)
	op := &operation{kind: "Rename", args: id + " " + name, organization: id, updateRequest: &org.UpdateRequest{OrganizationName: &name}}
	op.run = func(ctx context.Context, service *org.Service) error {
		_, err := service.Rename(ctx, "operator", id, org.RenameRequest{Reason: fmt.Sprint("reason ", op.n), OrganizationName: name})
		return err
	}
	return op
}

// lists reports whether an organization that is active or suspended lists the admin.
func (s *sim) lists(adminID string) bool {
	for _, o := range s.durable.organizations {
		if (o.Status == org.Active || o.Status == org.Suspended) && o.Role(adminID) != "" {
			return true
		}
	}
	return false
}

// purgeCommitted checks that an operator asked for the deletion for good, or that the grace is over.
func (s *sim) purgeCommitted(m *tenantModel, after org.Organization) {
	op := s.operation(after.Operation.ID)
	m.buried, m.purged = false, true
	switch {
	case op.kind == "Purge" && op.organization == m.id:
		op.committed = true
		s.checkCommitTime(op, m.id)
	case after.Operation.Kind != org.Removing || time.Until(m.restorableUntil) > maxClockError:
		s.addProblem("organization lost", "%s is deleted for good by op%d %s, %v too early", m.id, op.n, op.kind, time.Until(m.restorableUntil))
	}
}

// burialCommitted checks that nothing is lost of an organization that can be restored.
func (s *sim) burialCommitted(m *tenantModel, before, after org.Organization) {
	m.buried = true
	wrong := after.Status != org.Deleted || after.Name != m.name || !strings.HasPrefix(after.Collection, "org_-deleted-") || !slices.Equal(after.Claims, []string{after.Collection})
	if wrong || !reflect.DeepEqual(before.Admins, after.Admins) || after.Deletion == nil || after.Deletion.Collection != org.CollectionPrefix+m.slug || after.Deletion.Ends.Sub(after.Deletion.At) != s.grace {
		s.addProblem("wrong state", "%s is %s with %+v after its deletion", m.id, organizationText(after), after.Deletion)
	}
}

// restorationCommitted checks that an operator asked for it, and changes the model as it does.
func (s *sim) restorationCommitted(m *tenantModel, before, after org.Organization) {
	op := s.operation(after.Committed)
	if op.kind != "Restore" || op.organization != m.id || op.committed || !m.buried {
		s.addProblem("wrong state", "%s is restored by op%d %s", m.id, op.n, op.kind)
	}
	op.committed = true
	s.checkCommitTime(op, m.id)
	m.deleting, m.buried = false, false
	if op.name != "" {
		m.name, m.slug = op.name, slugOfName(op.name)
	}
	// All are there but those whose emails others have.
	var members []org.Member
	for _, member := range before.Admins {
		if a, ok := s.durable.admins[member.AdminID]; ok && !a.Asleep {
			members = append(members, member)
		} else if m.mate != nil && m.mate.adminID == member.AdminID {
			m.mate = nil
		}
	}
	owner := firstOwner(after)
	if m.personModel = s.people[owner]; m.personModel == nil {
		m.personModel = &personModel{adminID: owner}
	}
	if m.mate == m.personModel {
		m.mate = nil
	}
	if after.Status != org.Active || after.Name != m.name || after.Collection != org.CollectionPrefix+m.slug || after.Deletion != nil || !reflect.DeepEqual(members, after.Admins) || after.Role(owner) != org.RoleOwner {
		s.addProblem("wrong state", "%s is %s after its restoration; want %s", m.id, organizationText(after), m.name)
	}
	if last := lastAct(after); last != op.actID(after) {
		s.addProblem("wrong act", "the latest act on %s is %s after its restoration", m.id, last)
	}
	if c, exists := s.durable.collections[after.Collection]; !exists || c.uuid != m.uuid && s.durable.hasUUID(uuidText(m.uuid)) {
		s.addProblem("foreign documents", "%s is restored with another collection: %v", m.id, s.durable.catalog.String())
	}
}

// actID returns the id of the act of the operation on the record.
func (op *operation) actID(o org.Organization) string {
	for _, a := range o.History {
		if operationOf(a.ID) == op.n {
			return a.ID
		}
	}
	return ""
}

// checkDeleted checks an organization that can be restored.
func (s *sim) checkDeleted(o org.Organization, m *tenantModel, claims map[string]bool) {
	if !m.buried {
		s.addProblem("wrong state", "%s", organizationText(o))
	}
	if c := s.durable.claims[o.Collection]; c.OrganizationID != o.ID {
		s.addProblem("claim missing", "%s does not have %s", o.ID, o.Collection)
	}
	for _, member := range o.Admins {
		a, ok := s.durable.admins[member.AdminID]
		if !ok || !slices.Contains(a.Organizations, o.ID) {
			s.addProblem("admin missing", "%s of %s", member.AdminID, o.ID)
		}
	}
	s.checkCollection(o, m)
}

// checkSleepers checks that those admins are asleep, and without a claim, whom no organization
// lists that is active or suspended, and that what was deleted for good has left a receipt.
func (s *sim) checkSleepers() {
	for _, a := range inOrder(s.durable.admins) {
		if a.Asleep == s.lists(a.ID) || a.Asleep && s.durable.claims["email:"+a.Email].AdminID == a.ID {
			s.addProblem("asleep", "%s is asleep: %v, with %v", a.ID, a.Asleep, s.durable.claims["email:"+a.Email])
		}
	}
	for _, m := range inOrder(s.models) {
		_, exists := s.durable.organizations[m.id]
		if _, left := s.durable.receipts[m.id]; !exists && left != m.purged {
			s.addProblem("receipt", "%s is purged %v, with a receipt %v", m.id, m.purged, left)
		}
	}
}

// checkRestorable restores what can be restored, and deletes the rest for good.
func (s *sim) checkRestorable() {
	for i, id := range s.deleted() {
		m := s.models[id]
		err := s.runAlone(s.restoreOp(id, "back"+string(rune('a'+i))))
		if reasonOf(err) == org.EmailTaken {
			err = s.runAlone(s.purgeOp(id))
		}
		if err != nil {
			s.addProblem("liveness", "%s can't be restored: %v", m.id, err)
		}
	}
	if !s.durable.comparesUUIDs { // the names rest
		s.sleep(2 * org.StaleAfter)
		s.runAlone(s.reconcileOp(true))
	}
	s.runAlone(s.reconcileOp(false)) // mails what members have not got while they were asleep
}
